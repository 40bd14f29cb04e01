"""How the embedded model is made: drawings -> CLIP -> VAE -> UNet -> report (`make model`).

Every stage is `python -m tools.<stage>`, runs on CPU or CUDA, is seeded, and resumes from
`build/` if it was interrupted. Nothing here is imported by `esd_core` or the app.
"""
