"""The app's screens: a folder a tab, and what they stand on. Imports `esd_core`, never reversed.

- erase, compare, scores, mixture, attention, library: the tabs, each laid out and wired by its `tab.py`
- shared: what several tabs use: pictures, prompts, tables, the visitor's erasures
- server: all that exists because visitors share one processor: who waits for whom, Stop, memory
- look: colours, type, style.css, keys.js; it imports none of the others

A value that cannot be raises ValueError, whose sentence reaches the visitor by `server.stream.refusals`.
Imports go from tabs to shared to server. tests/app/test_layers.py checks it.
"""
