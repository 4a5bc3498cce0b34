project = "notes"
extensions = ["gradviz", "myst_parser"]
