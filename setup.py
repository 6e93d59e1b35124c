from pathlib import Path

from setuptools import find_packages, setup

CURVES = ['matplotlib>=3.8']
EVAL = ['faster-coco-eval>=1.8']
TEST = ['pytest>=8', 'pytest-timeout>=2.3', 'pytest-xdist>=3.7', 'hypothesis>=6.100']
EXPORT = ['onnx>=1.17', 'onnxruntime>=1.19', 'safetensors>=0.4.3']

setup(
    name='mspn',
    version='1.0.0',
    description='Multi-stage pose network (MSPN): the reference implementation',
    license='MIT',
    python_requires='>=3.10',
    packages=find_packages(include=['cvpack*', 'lib*']),
    install_requires=(Path(__file__).parent / 'requirements.txt').read_text().split(),
    extras_require={
        'curves': CURVES,
        'dev': [*TEST, 'ruff==0.17.*', 'mypy==2.4.*', *CURVES, *EVAL, *EXPORT],
        'eval': EVAL,
        'export': EXPORT,
    },
)
