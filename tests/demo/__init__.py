"""`make demo`: the main job from nothing to a published model, watched and then proven."""
