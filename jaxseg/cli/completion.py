"""`jaxseg completion bash|zsh`: prints a script that completes commands, flags and experiments.

eval "$(jaxseg completion bash)"     # in ~/.bashrc; for zsh in ~/.zshrc with zsh
"""

import argparse
import importlib

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
_ZSH = """autoload -U +X compinit && compinit
autoload -U +X bashcompinit && bashcompinit
"""


def parser(program: str) -> argparse.ArgumentParser:
    """Takes the shell's name."""
    made = argparse.ArgumentParser(prog=program, description=__doc__.split("\n\n")[0])
    made.add_argument("shell", choices=("bash", "zsh"))
    return made


def run(arguments: argparse.Namespace) -> None:
    """Prints the script."""
    print(script(arguments.shell), end="")


def script(shell: str) -> str:
    """The completion script for 'bash' or 'zsh'."""
    from jaxseg.cli.main import COMMANDS
    from jaxseg.experiment import presets

    cases = "\n".join(
        f'        {name}) words="{" ".join(words(name, command.module))}" ;;'
        for name, command in COMMANDS.items()
    )
    text = _BASH.format(
        cases=cases,
        commands=" ".join(COMMANDS),
        configs=" ".join(f"--config={name}" for name in presets.names()),
    )
    return (_ZSH if shell == "zsh" else "") + text


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
