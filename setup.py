"""Packaging, read from settings.ini so that each fact stands in one place."""
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

config = ConfigParser(delimiters=['='])
config.read(Path(__file__).with_name('settings.ini'), encoding='utf-8')
cfg = config['DEFAULT']
extras = {key.removesuffix('_requirements'): cfg[key].split() for key in cfg if key.endswith('_requirements')}

setup(
    name=cfg['lib_name'],
    version=cfg['version'],
    description=cfg['description'],
    long_description=Path(__file__).with_name('README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    author=cfg['author'],
    author_email=cfg['author_email'],
    url=cfg['git_url'],
    license='Apache-2.0',
    keywords=cfg['keywords'],
    packages=find_packages(include=['partvision', 'partvision.*']),
    include_package_data=True,
    python_requires='>=' + cfg['min_python'],
    install_requires=cfg['requirements'].split(),
    extras_require=extras | {'all': sorted({r for name, reqs in extras.items() if name not in ('cad', 'mobilenet') for r in reqs})},
    entry_points={'console_scripts': cfg['console_scripts'].split('\n'), 'jupyter_client.kernel_provisioners': ['partvision-warm = partvision.kernels:WarmProvisioner']},
    data_files=[('share/jupyter/kernels/partvision-warm', ['partvision/jupyter/kernels/partvision-warm/kernel.json'])],
)
