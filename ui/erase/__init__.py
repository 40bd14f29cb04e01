"""The Erase tab: `fields` ask and are read, `run` erases, `run_record` is what it shows and keeps.

`pictures` and `curves` are its parts; `estimate` says what it will take; `picker` offers concepts by picture.
"""
