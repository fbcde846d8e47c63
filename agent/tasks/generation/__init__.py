"""What a language model's answer means.

Owns tools: what a model is told of them, which answers it may give, and how an answer becomes calls.
Never runs a model and knows no protocol; how a token is chosen is the engines' affair.
"""
