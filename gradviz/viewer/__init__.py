"""The interactive page: JavaScript modules, the style sheet, and the file built from them."""
