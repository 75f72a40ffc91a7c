"""Print a config with its bases and overrides resolved.

python tools/misc/print_config.py configs/plvl/plvl_vit-b_4xb20-150e_refcoco.py
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


from projects.common.cli.config import load_config
from projects.common.cli.options import add_cfg_options
from projects.common.cli.report import report_user_errors


def main() -> None:
    parser = argparse.ArgumentParser(
        description='Print a config with its bases and overrides resolved'
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('--save', metavar='FILE', help='write it to FILE instead')
    add_cfg_options(parser)
    args = parser.parse_args()
    cfg = load_config(args.config, args.cfg_options)
    if args.save:
        cfg.dump(args.save)
    else:
        print(cfg.pretty_text)


if __name__ == '__main__':
    with report_user_errors():
        main()
