"""The one renderer: what people are shown."""
