"""The TensorFlow Lite family: files that are quantized already, checked, judged and packaged.

Its converter quantizes while it converts, so there is nothing left to do here but to see what was
lost: against the float file of the same model where it is given.
"""
