project = "lessons"
author = copyright = "gradviz"
version = "1"
extensions = ["gradviz"]
