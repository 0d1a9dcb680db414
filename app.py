"""The router: `gradsift app`, or `streamlit run app.py`. The pages are listed in `pages/ui/session.py`."""

from pages.ui import session

session.route()
