//! Which nodes of a graph lead back to themselves: Tarjan's strongly connected components, without recursion, because a
//! stranger's descriptors say how deep it goes.

/// For each node the number of its component. Components are numbered so that an edge out of one leads to a lower number.
pub(super) fn components(edges: &[Vec<usize>]) -> Vec<usize> {
    let mut search = Search {
        edges,
        order: vec![None; edges.len()],
        low: vec![0; edges.len()],
        component: vec![None; edges.len()],
        stack: Vec::new(),
        next_order: 0,
        next_component: 0,
    };
    for root in 0..edges.len() {
        search.visit(root);
    }
    search.component.into_iter().map(Option::unwrap_or_default).collect()
}

struct Search<'a> {
    edges: &'a [Vec<usize>],
    order: Vec<Option<usize>>,
    low: Vec<usize>,
    component: Vec<Option<usize>>,
    stack: Vec<usize>,
    next_order: usize,
    next_component: usize,
}

impl Search<'_> {
    fn visit(&mut self, root: usize) {
        if self.order_of(root).is_some() {
            return;
        }
        // Each frame is a node and how many of its edges have been followed.
        let mut frames: Vec<(usize, usize)> = vec![(root, 0)];
        self.enter(root);
        while let Some((node, followed)) = frames.pop() {
            match self.edges.get(node).and_then(|out| out.get(followed)).copied() {
                Some(target) => {
                    frames.push((node, followed.saturating_add(1)));
                    match self.order_of(target) {
                        None => {
                            self.enter(target);
                            frames.push((target, 0));
                        }
                        Some(order) if self.component_of(target).is_none() => self.lower(node, order),
                        Some(_) => {}
                    }
                }
                None => self.leave(node, frames.last().map(|(parent, _)| *parent)),
            }
        }
    }

    fn enter(&mut self, node: usize) {
        let order = self.next_order;
        self.next_order = order.saturating_add(1);
        if let (Some(slot), Some(low)) = (self.order.get_mut(node), self.low.get_mut(node)) {
            *slot = Some(order);
            *low = order;
        }
        self.stack.push(node);
    }

    fn leave(&mut self, node: usize, parent: Option<usize>) {
        let low = self.low.get(node).copied().unwrap_or_default();
        if let Some(parent) = parent {
            self.lower(parent, low);
        }
        if self.order_of(node) != Some(low) {
            return;
        }
        while let Some(member) = self.stack.pop() {
            if let Some(slot) = self.component.get_mut(member) {
                *slot = Some(self.next_component);
            }
            if member == node {
                break;
            }
        }
        self.next_component = self.next_component.saturating_add(1);
    }

    fn lower(&mut self, node: usize, order: usize) {
        if let Some(low) = self.low.get_mut(node) {
            *low = (*low).min(order);
        }
    }

    fn order_of(&self, node: usize) -> Option<usize> {
        self.order.get(node).copied().flatten()
    }

    fn component_of(&self, node: usize) -> Option<usize> {
        self.component.get(node).copied().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::components;
    use proptest::prelude::*;

    fn reaches(edges: &[Vec<usize>], from: usize, to: usize) -> bool {
        let mut seen = vec![false; edges.len()];
        let mut open = vec![from];
        while let Some(node) = open.pop() {
            if std::mem::replace(&mut seen[node], true) {
                continue;
            }
            open.extend(&edges[node]);
        }
        seen[to]
    }

    #[test]
    fn a_chain_of_a_hundred_thousand_needs_no_stack() {
        let edges: Vec<Vec<usize>> =
            (0..100_000).map(|node| if node == 99_999 { vec![] } else { vec![node + 1] }).collect();
        let found = components(&edges);
        assert!(found.is_sorted_by(|one, next| one > next));
    }

    proptest! {
        #[test]
        fn together_if_and_only_if_each_reaches_the_other(
            edges in prop::collection::vec(prop::collection::vec(0_usize..8, 0..4), 8)
        ) {
            let found = components(&edges);
            for one in 0..8 {
                for other in 0..8 {
                    let mutual = reaches(&edges, one, other) && reaches(&edges, other, one);
                    prop_assert_eq!(found[one] == found[other], mutual);
                }
                for target in &edges[one] {
                    prop_assert!(found[*target] <= found[one]);
                }
            }
        }
    }
}
