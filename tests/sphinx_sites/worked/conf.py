extensions = ["sphinx_gallery.gen_gallery"]
sphinx_gallery_conf = {
    "examples_dirs": "lessons",
    "gallery_dirs": "made",
    "filename_pattern": "/",
    "image_scrapers": (),
    "reset_modules": (),
    "show_memory": False,
}
exclude_patterns = ["lessons"]
