"""The app's screens: a folder a tab, and what they stand on. Imports `esd_core`, never reversed.

- erase, compare, scores, mixture, attention, library: the tabs, each built by its `tab.py`
- shared: what several tabs use: pictures, prompts, the visitor's erasures
- server: all that exists because visitors share one processor: who waits for whom, Stop, memory
- look: colours, type, style.css, keys.js
"""
