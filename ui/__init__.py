"""The app's screens: one file per tab, and what the tabs share. Imports `esd_core`, never reversed.

- theme: colours, type, style.css, keys.js
- session: what belongs to one visitor, their erasure and its file
- prompts: words the model knows, and which prompts to watch while a concept goes
- pictures: tensors to HTML figures with alternative text
- live: an erasing run as a stream of things to show
- walk: the stages of a run that are kept beside its erasure
- looking: what Scores and Attention share; score_panels: what Scores shows
- erase_tab with its fields, compare_tab, scores_tab, attention_tab
"""
