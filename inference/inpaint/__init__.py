"""Latent diffusion inpainting in the shape of Stable Diffusion 2.

Importing it loads diffusers and transformers, whose remarks and loading bars are silenced: what is said to people
is said by this project.
"""

import diffusers.utils.logging
import transformers.utils.logging

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
diffusers.utils.logging.set_verbosity_error()
diffusers.utils.logging.disable_progress_bar()
