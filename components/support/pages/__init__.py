"""Pages for people: one frame, one stylesheet, one palette and one way to write numbers."""
