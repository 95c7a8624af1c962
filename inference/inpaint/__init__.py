"""Latent diffusion inpainting in the shape of Stable Diffusion 2."""
