"""The tools of real servers, as each listed them when it was started. `dump` wrote these files; nothing else does."""
