"""Frames to mp4 and back, metadata, sheets; `sheet` and `manifest` work without PyAV."""
