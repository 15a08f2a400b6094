# The web app; see docs/web.md.
#   docker build -t aimless-web .
#   docker run --rm -p 127.0.0.1:8501:8501 -v "$PWD/models:/models:ro" \
#       -v aimless-weights:/home/app/.cache/torch aimless-web
FROM python:3.12-slim

# a volume for published weights is given to the user to whom its folder belongs here
RUN useradd --create-home --uid 1000 app && mkdir /models && \
    install --directory --owner=app --group=app /home/app/.cache /home/app/.cache/torch
WORKDIR /app

COPY pyproject.toml setup.py constraints.txt README.md LICENSE ./
COPY aimless aimless
COPY scripts scripts
COPY docs/logo.svg docs/logo.svg
RUN pip install --no-cache-dir -c constraints.txt -e '.[web,demo]'

USER 1000
EXPOSE 8501
HEALTHCHECK --start-period=60s CMD ["python", "-c", \
    "import os, urllib.request as r; \
    path = os.environ.get('STREAMLIT_SERVER_BASE_URL_PATH', '').strip('/') + '/_stcore/health'; \
    r.urlopen('http://127.0.0.1:8501/' + path.lstrip('/'), timeout=5)"]
ENTRYPOINT ["streamlit", "run", "scripts/webapp.py", \
    "--server.address=0.0.0.0", "--server.headless=true", "--"]
CMD ["--models", "/models"]
