"""What a text is about: texts to token ids, a classifier's logits to labels with honest confidences.

Owns the manifest's labels, the calibration and the decision that a text is about none of them. Never
decides which model answers and never loads one: it is handed the verified files and something that
runs the model.
"""
