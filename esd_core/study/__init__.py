"""Instruments: compare, probe, evaluate and look inside a model before and after erasing."""
