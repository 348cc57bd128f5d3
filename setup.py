import re
from pathlib import Path

from setuptools import find_packages, setup

# 5.3: the first whose pools lend a connection without naming a command.
# hiredis: reading a long history takes half the time. 3.0 is what redis 5.3 works with.
REDIS = ["redis>=5.3", "hiredis>=3.0"]
# Packages of language models exclude newer versions. From 17.0 on the service takes DELETE as well.
SERVICE = ["websockets>=13.0"]
# Reports of sessions, and listing the threads of a service.
REPORTS = ["urllib3>=2.0.2"]
# The API only: the app chooses and configures the SDK.
OTEL = ["opentelemetry-api>=1.28"]
# For flask_agentuity.testing.conformance: the tests of a store of your own.
TESTING = ["freezegun>=1.5", "hypothesis>=6.100", "pytest>=8.0"]

ROOT = Path(__file__).parent


def read_version() -> str:
    """Return the version that the package states, without importing its dependencies."""
    text = (ROOT / "flask_agentuity" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE)
    assert found is not None
    return found[1]


def read_description() -> str:
    """Return the README. Links to files of the repository become text: an index has no files."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.sub(r"\[([^]]+)\]\((?!https?:)[^)]+\)", r"\1", text)


setup(
    name="flask-agentuity",
    version=read_version(),
    author="flask_agentuity maintainers",
    description="Conversation threads for Flask: state that outlives requests and machines.",
    long_description=read_description(),
    long_description_content_type="text/markdown",
    license="BSD-3-Clause",
    license_files=["LICENSE"],
    packages=find_packages(include=["flask_agentuity", "flask_agentuity.*"]),
    package_data={"flask_agentuity": ["py.typed"], "flask_agentuity.stores.redis": ["lua/*.lua"]},
    python_requires=">=3.11",
    install_requires=[
        "flask>=3.0",
        "blinker>=1.6.2",
        # 1.9.1: a redirect at the upgrade is refused instead of counting as connected.
        "websocket-client>=1.9.1",
        # 3.12: earlier ones nest a level deeper than later ones can write again, and spell
        # 1e+23 otherwise than JavaScript does.
        "orjson>=3.12",
    ],
    entry_points={"flask.commands": ["threads=flask_agentuity.web.cli:threads"]},
    extras_require={
        "otel": OTEL,
        "redis": REDIS,
        "reports": REPORTS,
        "service": SERVICE,
        "testing": TESTING,
        "all": OTEL + REDIS + REPORTS + SERVICE,
    },
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Web Environment",
        "Framework :: Flask",
        "Intended Audience :: Developers",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Programming Language :: Python :: 3.14",
        "Topic :: Database",
        "Topic :: Internet :: WWW/HTTP :: Session",
        "Topic :: Software Development :: Libraries :: Python Modules",
        "Typing :: Typed",
    ],
    keywords=[
        "agent",
        "agentuity",
        "chat",
        "conversation",
        "flask",
        "llm",
        "redis",
        "session",
        "sqlite",
        "state",
        "thread",
    ],
)
