"""What texts mean to an encoder: texts to token ids, an encoder's output to one vector for each text.

Owns truncation, batches and pooling as the manifest says them. Never decides which model answers and
never loads one: it is handed the verified files and something that runs the model.
"""
