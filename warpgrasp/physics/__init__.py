"""The physics test: one scene builder, small frozen protocols, MuJoCo underneath."""
