"""Whisper, from a Hugging Face folder to CTranslate2 with weights of 8 bits.

Owns the conversion, the proofs that it and the tokenizer are the original's, and the judgement by word
errors on recordings with their words. Never chooses a recipe, times or packages: those are the same
for every family. Never trains: that is a recipe's, under `models/`.
"""
