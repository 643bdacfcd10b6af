"""Write the demo's photographs to FOLDER/train and FOLDER/val and list them."""

import argparse


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folder', metavar='FOLDER', help='created if missing; photographs already there are kept')
    args = parser.parse_args()

    from wfvae_toolkit.datasets.demo import make_demo_data

    try:
        photos = make_demo_data(args.folder)
    except (ModuleNotFoundError, FileNotFoundError) as error:
        parser.exit(1, f'{error}\n')
    print(f'{"split":6} {"name":22} {"pixels":>11}  source')
    for photo in photos:
        print(f'{photo.split:6} {photo.name:22} {photo.width:>4} x {photo.height:>4}  {photo.source}')


if __name__ == '__main__':
    main()
