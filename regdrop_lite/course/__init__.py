"""What the chapters need beside the layers: data, models, training, studies, figures.

The layers never import this package, and importing it loads none of its modules:

* :mod:`regdrop_lite.course.data`: an embedded data set and loaders for larger ones;
* :mod:`regdrop_lite.course.models`: the blocks and the nets of the chapters;
* :mod:`regdrop_lite.course.training`: reproducible training and evaluation;
* :mod:`regdrop_lite.course.measures`: what is measured on a trained net;
* :mod:`regdrop_lite.course.study`: studies of many runs, and what they say;
* :mod:`regdrop_lite.course.plots`: one style for all figures;
* :mod:`regdrop_lite.course.tables`: tables of results, as HTML and as text;
* :mod:`regdrop_lite.course.check`: checkers for the exercises;
* :mod:`regdrop_lite.course.doctor`: whether a machine can run the notebooks;
* :mod:`regdrop_lite.course.teach`: what instructors build from the book;
* :mod:`regdrop_lite.course.kit`: a folder for a class without a network;
* :mod:`regdrop_lite.course.author`: what authors run on notebooks.
"""
