"""Attacks on the review page, tried where a reviewer is signed in; none may read or decide anything."""
