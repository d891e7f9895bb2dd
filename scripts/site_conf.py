"The settings of Sphinx; `build_site.py` copies this file beside the pages."

project = 'soundclf'
author = 'the soundclf founders'
copyright = '2026 onwards, the soundclf founders'
extensions = ['myst_nb', 'sphinx_copybutton']
exclude_patterns = ['_build']
html_theme = 'furo'
html_title = 'soundclf'
html_static_path = ['_static']
html_css_files = ['site.css']
html_copy_source = False
html_show_sphinx = False
nb_execution_mode = 'off'
nb_ipywidgets_js = {}  # nothing is loaded from the network when a page is read
nb_merge_streams = True
nb_number_source_lines = False
nb_code_prompt_show = 'Show the code'
nb_code_prompt_hide = 'Hide the code'
myst_enable_extensions = ['colon_fence']
myst_heading_anchors = 3
suppress_warnings = ['mystnb.unknown_mime_type', 'myst.header', 'misc.highlighting_failure']
