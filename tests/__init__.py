"""The tests: they mirror src/, beside whole stories, attacks, and the promises that link to them."""
