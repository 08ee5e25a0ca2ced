"""`jaxseg completion bash|zsh|fish`: prints a script that completes commands, flags, experiments.

eval "$(jaxseg completion bash)"     # in ~/.bashrc; for zsh in ~/.zshrc with zsh
jaxseg completion fish | source      # in ~/.config/fish/config.fish
"""

import argparse
import importlib
import shlex

SHELLS = ("bash", "zsh", "fish")

# Readline replaces only what follows the last '=' or ':', so completions are cut there.
_BASH = """_jaxseg() {{
  local line="${{COMP_LINE:0:COMP_POINT}}" words="" cut
  local current="${{line##* }}" command="${{COMP_WORDS[1]}}"
  COMPREPLY=()
  case "$line" in
    *" "*" "*) case "$command" in
{cases}
      esac
      case "$current" in
        --config=*) words="{configs}" ;;
        --*=*) COMPREPLY=($(compgen -f -- "${{current#*=}}")); return ;;
      esac ;;
    *) words="{commands} --help --version" ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
  cut="${{current%"${{current##*[=:]}}"}}"
  COMPREPLY=("${{COMPREPLY[@]#"$cut"}}")
  case "${{COMPREPLY[0]}}" in *=) compopt -o nospace 2>/dev/null ;; esac
}}
complete -o default -F _jaxseg jaxseg
"""
_ZSH = """(( $+functions[compdef] )) || {{ autoload -Uz compinit && compinit -i; }}
_jaxseg() {{
  local -a flags rest
  if (( CURRENT == 2 )); then
    flags=({commands})
    _describe command flags
    compadd -- --help --version
    return
  fi
  if compset -P '--config='; then
    compadd -- {configs}
    return
  fi
  if compset -P '--*='; then
    _files
    return
  fi
  case $words[2] in
{cases}
  esac
  compadd -S '' -- $flags
  compadd -- $rest
}}
compdef _jaxseg jaxseg
"""

_FISH_FIRST = "complete -c jaxseg -n __fish_use_subcommand -f"


def parser(program: str) -> argparse.ArgumentParser:
    """Takes the shell's name."""
    made = argparse.ArgumentParser(prog=program, description=__doc__.split("\n\n")[0])
    made.add_argument("shell", choices=SHELLS)
    return made


def run(arguments: argparse.Namespace) -> None:
    """Prints the script."""
    print(script(arguments.shell), end="")


def script(shell: str) -> str:
    """The completion script for one of SHELLS."""
    from jaxseg.cli.main import COMMANDS
    from jaxseg.experiment import presets

    taken = {name: words(name, command.module) for name, command in COMMANDS.items()}
    summaries = {name: command.summary for name, command in COMMANDS.items()}
    if shell == "fish":
        return _fish(taken, summaries, presets.names())
    if shell == "zsh":
        return _zsh(taken, summaries, presets.names())
    return _BASH.format(
        cases="\n".join(f'        {name}) words="{" ".join(w)}" ;;' for name, w in taken.items()),
        commands=" ".join(COMMANDS),
        configs=" ".join(f"--config={name}" for name in presets.names()),
    )


def _zsh(taken: dict[str, list[str]], summaries: dict[str, str], configs: list[str]) -> str:
    cases = [
        f"    {name}) flags=({' '.join(w for w in words if w.endswith('='))})\n"
        f"      rest=({' '.join(w for w in words if not w.endswith('='))}) ;;"
        for name, words in taken.items()
    ]
    commands = " ".join(shlex.quote(f"{name}:{told}") for name, told in summaries.items())
    return _ZSH.format(cases="\n".join(cases), commands=commands, configs=" ".join(configs))


def _fish(taken: dict[str, list[str]], summaries: dict[str, str], configs: list[str]) -> str:
    lines = [f"{_FISH_FIRST} -l help", f"{_FISH_FIRST} -l version"]
    lines += [f"{_FISH_FIRST} -a {name} -d {shlex.quote(told)}" for name, told in summaries.items()]
    for name, words in taken.items():
        start = f"complete -c jaxseg -n '__fish_seen_subcommand_from {name}'"
        for word in words:
            if word == "--config=":
                lines.append(f"{start} -l config -x -a '{' '.join(configs)}'")
            elif word.startswith("--"):
                value = "-r -F" if word.endswith("=") else "-f"
                lines.append(f"{start} -l {word.strip('-=')} {value}")
            else:
                lines.append(f"{start} -f -a {word}")
    return "\n".join(lines) + "\n"


def words(name: str, module: str) -> list[str]:
    """The flags of a command, with '=' where a value follows, and the choices of its arguments."""
    if not module:
        from jaxseg.cli import flags

        taken = [flag for flag, modes in flags.OF_MODES.items() if name in modes]
        return [*(f"--{flag}{flags.equals(flag)}" for flag in taken), "--help"]
    found = []
    for action in importlib.import_module(module).parser(name)._actions:
        value = "" if action.nargs == 0 else "="
        found += [option + value for option in action.option_strings if option.startswith("--")]
        found += list(action.choices or ())
    return found
