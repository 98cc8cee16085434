//! Files of one commit that define the same pipeline.

use std::{collections::BTreeMap, fmt};

use pipekeeper_model::Name;

/// Several files define one pipeline. Runs are told apart by it, so none of them can be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameClash {
    /// The pipeline.
    pub name: Name,
    /// The files.
    pub files: Vec<String>,
}

/// The names that several files define.
pub fn name_clashes<'a>(defined: impl IntoIterator<Item = (&'a Name, &'a str)>) -> Vec<NameClash> {
    let mut by_name: BTreeMap<&Name, Vec<String>> = BTreeMap::new();
    for (name, file) in defined {
        by_name.entry(name).or_default().push(file.to_owned());
    }
    by_name
        .into_iter()
        .filter(|(_, files)| files.len() > 1)
        .map(|(name, files)| NameClash {
            name: name.clone(),
            files,
        })
        .collect()
}

impl fmt::Display for NameClash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files: Vec<String> = self.files.iter().map(|file| format!("`{file}`")).collect();
        write!(
            f,
            "the pipeline `{}` is defined by {}; hint: give each another `name:`",
            self.name,
            files.join(" and by ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::name_clashes;

    #[test]
    fn a_name_belongs_to_one_file() {
        let (web, shop) = ("web".parse().unwrap(), "shop".parse().unwrap());
        assert_eq!(
            name_clashes([(&web, ".pipe/a.yaml"), (&shop, ".pipe/b.yaml")]),
            []
        );
        let clashes = name_clashes([
            (&web, ".pipe/a.yaml"),
            (&shop, ".pipe/b.yaml"),
            (&web, ".pipe/c.yaml"),
        ]);
        let texts: Vec<String> = clashes.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "the pipeline `web` is defined by `.pipe/a.yaml` and by `.pipe/c.yaml`; hint: give each another `name:`"
            ]
        );
    }
}
