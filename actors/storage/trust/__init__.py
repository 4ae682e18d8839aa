"""Whether to believe a published manifest: The Update Framework's signatures, versions and dates.

TUF signs the manifest alone; the manifest names every model file with its hash.

    publisher                                       client
    signing.Repository ──► a folder on any ──► client.TrustedRepository ──► bytes of manifest.json
      keys.KeyFolder       static web server      workflow.Workflow (python-tuf's Updater)

    metadata/N.root.json           which keys count for what; names its own successor
    metadata/timestamp.json        the newest snapshot; the only name that is written twice
    metadata/N.snapshot.json       the newest version of every other file
    metadata/N.targets.json        length and hash of manifest.json
    targets/HASH.manifest.json

Nothing outside this package knows the libraries behind it.
"""
