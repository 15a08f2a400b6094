# The web app; see docs/web.md.
#   docker build -t aimless-web .
#   docker run --rm -p 127.0.0.1:8501:8501 -v "$PWD/models:/models:ro" aimless-web
FROM python:3.12-slim

RUN useradd --create-home --uid 1000 app && mkdir /models
WORKDIR /app

COPY pyproject.toml setup.py constraints.txt README.md LICENSE ./
COPY aimless aimless
COPY scripts scripts
COPY docs/logo.svg docs/logo.svg
RUN pip install --no-cache-dir -c constraints.txt -e '.[web,demo]'

USER 1000
EXPOSE 8501
HEALTHCHECK --start-period=60s CMD ["python", "-c", \
    "import urllib.request as r; r.urlopen('http://127.0.0.1:8501/_stcore/health', timeout=5)"]
ENTRYPOINT ["streamlit", "run", "scripts/webapp.py", \
    "--server.address=0.0.0.0", "--server.headless=true", "--"]
CMD ["--models", "/models"]
