"""The interactive page: JavaScript modules, the style sheet, and the file that is built of them."""
