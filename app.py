"The page that Streamlit runs: `make app`."
from soundclf.app import main

main()
