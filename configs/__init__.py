"""The presets that come with modcodec, one TOML file each."""
