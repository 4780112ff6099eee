"""What authors run on notebooks.

* :mod:`regdrop_lite.course.author.execute`: run them as they are stored;
* :mod:`regdrop_lite.course.author.student`: take the solutions out;
* :mod:`regdrop_lite.course.author.plain`: the edition for Colab, GitHub, VS Code and
  JupyterLab, in the Markdown of :mod:`regdrop_lite.course.author.markdown`;
* :mod:`regdrop_lite.course.author.book`: the built site as one PDF or EPUB.
"""
