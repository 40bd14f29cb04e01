"""How the embedded model is made: drawings -> VAE -> CLIP -> UNet -> report (`make model`).

Every stage is `python -m tools.<stage>`, runs on CPU or CUDA, is seeded, writes a checkpoint a minute
and goes on from it if it was interrupted; `stage.json` beside the checkpoint says how long it took.
All of that lies in `build/`, or in the folder that ESD_BUILD names. ESD_START names the folder of the
model before, if this one shall start from it. Nothing here is imported by `esd_core` or the app.
"""
