"""Campaigns of faults: crashes, power cuts, broken disks and hostile upstreams, counted outside the gateway."""
