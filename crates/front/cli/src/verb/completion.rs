use super::Build;
use crate::context::Context;
use crate::out;
use clap::{Args, ValueEnum};
use tare_model::Result;

pub(super) const ARGS: Build = <CompletionArgs as Args>::augment_args;

/// Print a script that lets a shell complete verbs, flags and names
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare completion bash > /etc/bash_completion.d/tare
  tare completion zsh > /usr/local/share/zsh/site-functions/_tare
  tare completion fish > ~/.config/fish/completions/tare.fish")]
pub(crate) struct CompletionArgs {
    /// Which shell
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Each script asks `tare __complete` with the words so far; an empty answer leaves the field to file names.
const BASH: &str = r#"_tare() {
    local IFS=$'\n'
    local words=("${COMP_WORDS[@]:1:COMP_CWORD}")
    local found
    found=$(tare __complete -- "${words[@]}" 2>/dev/null | cut -f1)
    COMPREPLY=($(compgen -W "$found" -- "${COMP_WORDS[COMP_CWORD]}"))
    __ltrim_colon_completions "${COMP_WORDS[COMP_CWORD]}" 2>/dev/null || true
}
complete -o default -F _tare tare"#;

const ZSH: &str = r#"#compdef tare
_tare() {
    local -a found
    local line
    while IFS=$'\t' read -r name help; do
        found+=("${name//:/\\:}${help:+:$help}")
    done < <(tare __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)
    if (( ${#found} )); then _describe 'tare' found; else _files; fi
}
if [ "$funcstack[1]" = "_tare" ]; then _tare "$@"; else compdef _tare tare; fi"#;

const FISH: &str = r#"function __tare_complete
    set -l words (commandline -opc) (commandline -ct)
    tare __complete -- $words[2..-1] 2>/dev/null
end
complete -c tare -a '(__tare_complete)'"#;

pub(super) fn main(args: CompletionArgs, _: &Context) -> Result<u8> {
    out::print(match args.shell {
        Shell::Bash => BASH,
        Shell::Zsh => ZSH,
        Shell::Fish => FISH,
    })?;
    Ok(0)
}
