"""The app's screens: one file per tab, and what the tabs share. Imports `esd_core`, never reversed.

- theme: colours, type, style.css, keys.js
- session: what belongs to one visitor, their erasure and its file
- visitors: what they keep in memory; turn: a run or grid and its Stop
- line: where runs and grids wait
- fair: one thread computes for all; zero: or processes do, with a GPU lent to each
- prompts: words the model knows, and which prompts to watch while a concept goes
- pictures: tensors to HTML figures with alternative text
- live: an erasing run as a stream of things to show; moment: one of them
- preview: the pictures of a run, before and on its way
- film, presence: the pictures on its way, and what CLIP still sees in them
- pace, estimate: how long it takes, during and before
- picker: concepts as pictures
- badges, grid, grid_panel: proof and grids for compare_tab
- probing: is the concept still drawn? for the Library
- walk: the stages of a run that are kept beside its erasure
- looking: what Scores and Attention share; score_panels: what Scores shows
- world, plane, mixture_panels, foretell: the plane of the Mixture tab and its question
- shelf, in_use: a visitor's erasures and the ready-made ones, and which one is drawn with
- erase_tab with its fields, compare_tab, scores_tab, mixture_tab, attention_tab, library_tab
"""
