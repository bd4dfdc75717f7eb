//! Who owns which sectors: MBR and GPT.
