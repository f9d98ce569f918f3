"""Files of the Hugging Face Hub, downloaded once into the user's cache."""

from pathlib import Path


def hub_folder(name_or_folder: str | Path, files: list[str]) -> Path:
    """A folder as it is, or else the folder with a Hub repository's `files` (patterns).

    ValueError if it is neither, or if the repository cannot be reached.
    """
    folder, repo = Path(name_or_folder), str(name_or_folder)
    if folder.is_dir():
        return folder
    if repo.count("/") != 1:
        raise ValueError(f"{repo} is no folder, and no Hub repository such as owner/name")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(snapshot_download(repo, allow_patterns=files))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise ValueError(
            f"cannot get {repo!r} from the Hugging Face Hub ({type(error).__name__}); connect once,"
            f" or download {', '.join(files)} elsewhere and give the folder's path instead"
        ) from error
