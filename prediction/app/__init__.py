"""The app: a page in a browser that takes a title and a video, and shows what a run predicts of them.

__main__.py is its command line, answering.py asks the run, serving.py speaks HTTP, app.* is the page. Imports the rest
of prediction and what that may import; fastapi, uvicorn and python-multipart (requirements-app.txt) on use.
"""
