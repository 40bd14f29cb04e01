"""The app's screens: one file per tab, and what the tabs share. Imports `esd_core`, never reversed.

- theme: colours, type, style.css, keys.js
- session: what belongs to one visitor, their erasure and its file
- prompts: words the model knows, and which prompts to watch while a concept goes
- pictures: tensors to HTML figures with alternative text
- live: an erasing run as a stream of things to show; moment: one of them
- preview: the pictures of a run, before and on its way
- film, presence: the pictures on its way, and what CLIP still sees in them
- pace, estimate: how long it takes, during and before; turn: whose buttons they are
- picker: concepts as pictures
- badges, grid, grid_panel: proof and grids for compare_tab
- walk: the stages of a run that are kept beside its erasure
- looking: what Scores and Attention share; score_panels: what Scores shows
- erase_tab with its fields, compare_tab, scores_tab, attention_tab
"""
