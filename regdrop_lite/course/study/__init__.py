"""Studies of many runs: what is fixed before, made once, stored, and read by pages.

* :mod:`~regdrop_lite.course.study.plan`: a TOML file says what is trained and compared;
* :mod:`~regdrop_lite.course.study.run`: one training, measured, and what names it;
* :mod:`~regdrop_lite.course.study.sweep`: the command that makes all runs of a plan;
* :mod:`~regdrop_lite.course.study.store`: the files with the rows;
* :mod:`~regdrop_lite.course.study.statistics`: what paired rows say;
* :mod:`~regdrop_lite.course.study.report`: a finished study, for pages.

``python -m regdrop_lite.course.study PLAN`` makes what is open. Plans and results are
in ``book/results``, whose README tells how to add one.
"""
