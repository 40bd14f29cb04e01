"""The Erase tab: fields and picker ask, settings reads them, run erases, moment is what it shows.

A run's record keeps its film, presence curves and preview pictures; estimate says what it will take.
"""
