"""What the chapters need beside the layers: data, models and training.

The layers never import this package, and importing it loads none of its modules:

* :mod:`regdrop_lite.course.data`: an embedded data set and loaders for larger ones;
* :mod:`regdrop_lite.course.models`: the blocks and the nets of the chapters;
* :mod:`regdrop_lite.course.training`: reproducible training and evaluation.
"""
