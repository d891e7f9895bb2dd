"The page that Streamlit runs: `make app`."
from soundclf.tools.app import main

main()
