"""What instructors build from the book: quizzes, exams, plans, slides, assignments.

* :mod:`regdrop_lite.course.teach.bank`: the questions, their models and their answers;
* :mod:`regdrop_lite.course.teach.exam`: an exam and its answers, made from a seed;
* :mod:`regdrop_lite.course.teach.archive`: everything with its answers, and QTI;
* :mod:`regdrop_lite.course.teach.plans`: objectives, sections, exercises, timetables;
* :mod:`regdrop_lite.course.teach.class_notebooks`: chapters to type along in class;
* :mod:`regdrop_lite.course.teach.assign`: exercises as graded assignments;
* :mod:`regdrop_lite.course.teach.grade`: the points for them.
"""
